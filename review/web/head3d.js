// The fitted head by itself, to be turned freely with mouse, touch or keys.

import { $, clamp, colour } from "./util.js";
import { THREE } from "./three.js";

const HOME = { yaw: 0, pitch: 0, distance: 0.75 };

export class HeadView {
  constructor(posed) {
    this.posed = posed;
    this.canvas = $("head-canvas");
    this.still = true;
    this.clip = null;
    this.frame = -1;
    this.turn = { ...HOME };
    this.geometryVersion = -1;
    this.renderer = null;
    this.listen();
  }

  use(clip) {
    this.clip = clip;
    this.centre = null;
  }

  listen() {
    const { canvas } = this;
    let grip = null;
    canvas.addEventListener("pointerdown", (event) => {
      grip = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!grip) return;
      this.rotate((grip.x - event.clientX) * 0.01, (event.clientY - grip.y) * 0.01);
      grip = { x: event.clientX, y: event.clientY };
    });
    const release = () => {
      grip = null;
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("dblclick", () => this.front());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoom(Math.exp(event.deltaY * 0.001));
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0.15, 0], ArrowRight: [-0.15, 0], ArrowUp: [0, 0.15], ArrowDown: [0, -0.15] };
      if (moves[event.key]) this.rotate(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") this.zoom(0.9);
      else if (event.key === "-") this.zoom(1.1);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  rotate(yaw, pitch) {
    this.turn.yaw += yaw;
    this.turn.pitch = clamp(this.turn.pitch + pitch, -1.5, 1.5);
    this.draw(this.frame);
  }

  zoom(factor) {
    this.turn.distance = clamp(this.turn.distance * factor, 0.2, 5);
    this.draw(this.frame);
  }

  front() {
    this.turn = { ...HOME };
    this.draw(this.frame);
  }

  set wire(value) {
    this.wired = value;
    this.draw(this.frame);
  }

  prepare() {
    if (this.renderer) return;
    this.renderer = new THREE.WebGLRenderer({ canvas: this.canvas, alpha: true, antialias: true });
    this.renderer.setPixelRatio(window.devicePixelRatio || 1);
    this.scene = new THREE.Scene();
    this.key = new THREE.DirectionalLight(0xffffff, 2.4);
    const rim = new THREE.DirectionalLight(0xbfd6ff, 0.9);
    rim.position.set(-1, 0.4, -1);
    this.scene.add(this.key, rim, new THREE.HemisphereLight(0xffffff, 0x445066, 0.9));
    this.camera = new THREE.PerspectiveCamera(26, 1, 0.01, 20);
    this.material = new THREE.MeshStandardMaterial({ color: 0xd9dde6, roughness: 0.62, metalness: 0.02 });
    this.holder = new THREE.Group();
    this.holder.matrixAutoUpdate = false;
    this.scene.add(this.holder);
  }

  // Camera space to what is shown: y up; where the head is held still, turned back and about its own middle.
  matrix(frame) {
    if (!this.still) return new THREE.Matrix4().makeScale(1, -1, -1);
    const { global_pose: pose } = this.clip.head;
    const axis = new THREE.Vector3(pose[3 * frame], pose[3 * frame + 1], pose[3 * frame + 2]);
    const angle = axis.length();
    const turned = new THREE.Matrix4();
    if (angle > 1e-9) turned.makeRotationAxis(axis.divideScalar(angle), -angle);
    const middle = this.posed.middle(new THREE.Vector3()).applyMatrix4(turned);
    return turned.setPosition(middle.negate());
  }

  draw(frame) {
    this.frame = frame;
    const visible = Boolean(this.clip?.fitted) && this.posed.pose(frame);
    this.canvas.style.visibility = visible ? "visible" : "hidden";
    if (!visible) return;
    this.prepare();
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    if (this.size !== `${width} ${height}`) {
      this.size = `${width} ${height}`;
      this.renderer.setSize(width, height, false);
    }
    if (this.geometryVersion !== this.posed.version) {
      if (this.mesh) this.holder.remove(this.mesh);
      this.mesh = new THREE.Mesh(this.posed.geometry, this.material);
      this.mesh.frustumCulled = false;
      this.holder.add(this.mesh);
      this.geometryVersion = this.posed.version;
      this.centre = null;
    }
    this.holder.matrix.copy(this.matrix(frame));
    if (this.centre?.still !== this.still) {
      const middle = this.posed.middle(new THREE.Vector3()).applyMatrix4(this.holder.matrix);
      this.centre = { still: this.still, middle };
    }
    const { yaw, pitch, distance } = this.turn;
    const away = new THREE.Vector3(
      Math.sin(yaw) * Math.cos(pitch), Math.sin(pitch), Math.cos(yaw) * Math.cos(pitch),
    ).multiplyScalar(distance);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.camera.position.copy(this.centre.middle).add(away);
    this.camera.lookAt(this.centre.middle);
    this.key.position.copy(this.camera.position).add(new THREE.Vector3(-0.3, 0.4, 0.1));
    this.material.color.set(colour("--clay"));
    this.material.wireframe = Boolean(this.wired);
    this.renderer.render(this.scene, this.camera);
  }
}
