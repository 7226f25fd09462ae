// Starts an exported page. Browsers load no modules from files, so their text is in modules.js and becomes modules here.

(() => {
  const addresses = {};
  for (const { name, text, imports } of window.TALKSET_MODULES) {
    let code = text;
    for (const [written, wanted] of Object.entries(imports)) {
      for (const quote of ['"', "'"]) code = code.replaceAll(quote + written + quote, quote + addresses[wanted] + quote);
    }
    addresses[name] = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  }
  import(addresses["app.js"]);
})();
