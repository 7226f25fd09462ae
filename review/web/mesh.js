// The fitted mesh of a clip, block by block from the server, and its shape for three.js.

import { source } from "./api.js";
import { THREE } from "./three.js";

const topology = new Map();

export class MeshSource {
  constructor(clip, block, onLoad) {
    this.clip = clip;
    this.block = block;
    this.onLoad = onLoad;
    this.blocks = new Map();
    this.faces = null;
    this.problem = null;
    if (!clip.fitted) {
      this.problem = "This clip was not fitted";
      return;
    }
    const model = `${clip.head.model} ${clip.index.model_sha256}`;
    if (!topology.has(model)) {
      const faces = source.array(clip.clip_id, "faces", 0);
      topology.set(model, faces.then(({ header, buffer, offset }) => new Uint32Array(buffer, offset, header.shape[0] * 3)));
    }
    topology.get(model).then(
      (faces) => {
        this.faces = faces;
        this.onLoad();
      },
      (error) => {
        topology.delete(model);
        this.fail(error);
      },
    );
  }

  fail(error) {
    this.problem = error.message;
    this.onLoad();
  }

  request(number) {
    if (this.blocks.has(number) || number < 0 || number * this.block >= this.clip.pts_us.length) return;
    this.blocks.set(number, null);
    source.array(this.clip.clip_id, "vertices", number).then(
      ({ header, buffer, offset }) => {
        this.blocks.set(number, { header, steps: new Uint16Array(buffer, offset) });
        this.onLoad();
      },
      (error) => this.fail(error),
    );
  }

  // Write the vertices of a frame (camera space, metres) into an array; false where they are not there.
  read(frame, target) {
    if (this.problem || frame < 0) return false;
    const number = Math.floor(frame / this.block);
    this.request(number);
    this.request(number + 1);
    const block = this.blocks.get(number);
    if (!block) return false;
    const { low, step, known, shape } = block.header;
    const place = frame - block.header.start;
    if (!known[place]) return false;
    const size = shape[1] * 3;
    const steps = block.steps.subarray(place * size, (place + 1) * size);
    for (let i = 0; i < size; i += 3) {
      target[i] = low[0] + step[0] * steps[i];
      target[i + 1] = low[1] + step[1] * steps[i + 1];
      target[i + 2] = low[2] + step[2] * steps[i + 2];
    }
    return true;
  }

  get vertexCount() {
    for (const block of this.blocks.values()) if (block) return block.header.shape[1];
    return 0;
  }
}

// One geometry, filled with the frame at hand and drawn by both views.
export class PosedMesh {
  constructor() {
    this.geometry = null;
    this.faces = null;
    this.source = null;
    this.frame = -1;
    this.visible = false;
    this.version = 0;
  }

  use(meshSource) {
    this.source = meshSource;
    this.frame = -1;
    this.visible = false;
  }

  // The mean of the vertices at hand, camera space.
  middle(target) {
    const { array, count } = this.geometry.getAttribute("position");
    const sum = [0, 0, 0];
    for (let i = 0; i < array.length; i++) sum[i % 3] += array[i];
    return target.set(sum[0] / count, sum[1] / count, sum[2] / count);
  }

  // Whether the frame's mesh is ready to be drawn.
  pose(frame) {
    const meshes = this.source;
    if (!THREE || !meshes || !meshes.faces) return false;
    if (this.faces !== meshes.faces) {
      meshes.request(Math.floor(Math.max(0, frame) / meshes.block));
      const count = meshes.vertexCount;
      if (!count) return false;
      this.faces = meshes.faces;
      this.geometry?.dispose();
      this.geometry = new THREE.BufferGeometry();
      const positions = new THREE.BufferAttribute(new Float32Array(count * 3), 3);
      positions.setUsage(THREE.DynamicDrawUsage);
      this.geometry.setAttribute("position", positions);
      this.geometry.setIndex(new THREE.BufferAttribute(meshes.faces, 1));
      this.version++;
    }
    if (this.frame === frame && this.visible) return true;
    const positions = this.geometry.getAttribute("position");
    this.visible = meshes.read(frame, positions.array);
    this.frame = frame;
    if (this.visible) {
      positions.needsUpdate = true;
      this.geometry.computeVertexNormals();
    }
    return this.visible;
  }
}

let webgl;

// Why meshes cannot be drawn in this browser, null where they can; found out once.
export function webglProblem() {
  if (webgl === undefined) {
    const context = document.createElement("canvas").getContext("webgl2");
    webgl = context ? null : "This browser has no WebGL: use the rendered view";
    context?.getExtension("WEBGL_lose_context")?.loseContext();
  }
  return webgl;
}
