// three.js, fetched after the first picture is shown: it is large, and a clip can be judged before its mesh is there.

export let THREE = null;
let asked = null;

export function loadThree() {
  asked ??= import("./vendor/three/three.module.min.js").then((module) => {
    THREE = module;
  });
  return asked;
}
