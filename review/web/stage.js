// What is drawn over the video: the mesh through the clip's own camera, and the landmarks it was fitted to.

import { $, colour, fitted } from "./util.js";
import { THREE } from "./three.js";

export const VIEWS = [
  ["source", "Source"],
  ["mesh", "Mesh"],
  ["points", "Points"],
  ["both", "Both"],
  ["side", "Split"],
  ["rendered", "Rendered"],
];
const NEAR = 0.01;
const FAR = 1000;

export class Stage {
  constructor(posed) {
    this.posed = posed;
    this.video = $("video");
    this.view = "both";
    this.opacity = 0.65;
    this.clip = null;
    this.points = null;
    this.renderer = null;
    this.scene = null;
    this.mesh = null;
    this.geometryVersion = -1;
  }

  use(clip) {
    this.clip = clip;
    this.points = null;
    this.blank();
  }

  setPoints({ header, buffer, offset }) {
    const [frames, count] = header.shape;
    const xy = new Float32Array(buffer, offset, frames * count * 2);
    const trust = header.confidence ? new Float32Array(buffer, offset + xy.byteLength, frames * count) : null;
    this.points = { frames, count, xy, trust };
  }

  get showsMesh() {
    return ["mesh", "both", "side"].includes(this.view);
  }

  get showsPoints() {
    return ["points", "both", "side"].includes(this.view);
  }

  // Lay panes and canvases over the picture as the video is shown, letterboxed by the browser.
  layout() {
    const side = this.view === "side";
    $("plain").hidden = !side;
    $("stage").classList.toggle("two", side);
    const pane = $("pane").getBoundingClientRect();
    const width = this.video.videoWidth || this.clip?.index.width || 16;
    const height = this.video.videoHeight || this.clip?.index.height || 9;
    const scale = Math.min(pane.width / width, pane.height / height);
    const box = { left: (pane.width - width * scale) / 2, top: (pane.height - height * scale) / 2 };
    // odd sides got one more row or column when the video was written; the camera knows the true size
    const shown = { width: (this.clip?.index.width || width) * scale, height: (this.clip?.index.height || height) * scale };
    const { style } = $("points-canvas");
    style.left = `${box.left}px`;
    style.top = `${box.top}px`;
    style.width = `${shown.width}px`;
    style.height = `${shown.height}px`;
    this.scale = scale;
    if (!this.renderer) return;
    // the mesh's canvas has the size of the pane: a new size costs much, and clips differ
    const size = `${pane.width} ${pane.height}`;
    if (this.size !== size) {
      this.size = size;
      this.renderer.setSize(pane.width, pane.height, false);
    }
    const bottom = pane.height - box.top - shown.height;
    this.renderer.setViewport(box.left, bottom, shown.width, shown.height);
    this.renderer.setScissor(box.left, bottom, shown.width, shown.height);
    this.renderer.setScissorTest(true);
  }

  blank() {
    for (const canvas of [$("points-canvas"), $("plain-canvas")]) {
      const { context, width, height } = fitted(canvas);
      context.clearRect(0, 0, width, height);
    }
    $("mesh-canvas").style.visibility = "hidden";
  }

  draw(frame) {
    if (!this.clip || frame < 0) return;
    this.drawMesh(frame);
    this.drawPoints(frame);
    if (this.view === "side") this.drawPlain();
  }

  drawPlain() {
    const { context, width, height } = fitted($("plain-canvas"));
    context.clearRect(0, 0, width, height);
    const { videoWidth, videoHeight } = this.video;
    if (!videoWidth) return;
    const scale = Math.min(width / videoWidth, height / videoHeight);
    const w = videoWidth * scale;
    const h = videoHeight * scale;
    context.drawImage(this.video, (width - w) / 2, (height - h) / 2, w, h);
  }

  drawPoints(frame) {
    const { context, width, height } = fitted($("points-canvas"));
    context.clearRect(0, 0, width, height);
    if (!this.showsPoints || !this.points || frame >= this.points.frames) return;
    const { count, xy, trust } = this.points;
    const size = Math.max(1.4, Math.min(3, this.scale * 1.6));
    const good = colour("--point");
    const doubtful = colour("--point-doubtful");
    for (let i = 0; i < count; i++) {
      const place = frame * count + i;
      const x = xy[2 * place] * this.scale;
      const y = xy[2 * place + 1] * this.scale;
      if (!Number.isFinite(x)) continue;
      context.fillStyle = trust && trust[place] < 0.5 ? doubtful : good;
      context.fillRect(x - size / 2, y - size / 2, size, size);
    }
  }

  prepare() {
    if (this.renderer) return;
    this.renderer = new THREE.WebGLRenderer({ canvas: $("mesh-canvas"), alpha: true, antialias: true });
    this.renderer.setPixelRatio(window.devicePixelRatio || 1);
    this.renderer.setClearColor(0x000000, 0);
    this.scene = new THREE.Scene();
    const light = new THREE.DirectionalLight(0xffffff, 2.6);
    light.position.set(-0.4, 0.6, 1);
    this.scene.add(light, new THREE.AmbientLight(0xffffff, 0.7));
    this.camera = new THREE.PerspectiveCamera();
    this.camera.matrixAutoUpdate = false;
    this.material = new THREE.MeshStandardMaterial({ color: 0x6fb1f5, roughness: 0.75, metalness: 0, flatShading: true });
    this.layout();
  }

  drawMesh(frame) {
    const canvas = $("mesh-canvas");
    const visible = this.showsMesh && this.posed.pose(frame);
    canvas.style.visibility = visible ? "visible" : "hidden";
    canvas.style.opacity = this.opacity;
    if (!visible) return;
    this.prepare();
    if (this.geometryVersion !== this.posed.version) {
      if (this.mesh) this.scene.remove(this.mesh);
      this.mesh = new THREE.Mesh(this.posed.geometry, this.material);
      this.mesh.frustumCulled = false;
      this.mesh.scale.set(1, -1, -1); // OpenCV's camera looks along +z with y down, three.js' along -z with y up
      this.scene.add(this.mesh);
      this.geometryVersion = this.posed.version;
    }
    const { width, height } = this.clip.index;
    const focal = this.clip.head.focal_px;
    const [cx, cy] = this.clip.head.principal_point;
    const depth = FAR - NEAR;
    this.camera.projectionMatrix.set(
      (2 * focal) / width, 0, 1 - (2 * cx) / width, 0,
      0, (2 * focal) / height, (2 * cy) / height - 1, 0,
      0, 0, -(FAR + NEAR) / depth, (-2 * FAR * NEAR) / depth,
      0, 0, -1, 0,
    );
    this.camera.projectionMatrixInverse.copy(this.camera.projectionMatrix).invert();
    this.renderer.setScissorTest(false);
    this.renderer.clear();
    this.renderer.setScissorTest(true);
    this.renderer.render(this.scene, this.camera);
  }
}
