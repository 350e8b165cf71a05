// The package in Node: onnxruntime-node, and files on the disk.

import { open } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { Cascade as AnyCascade } from "./lib/cascade.js";

export * from "./lib/errors.js";
export { OpenInference } from "./lib/open-inference.js";

export class Cascade extends AnyCascade {
  static engine() {
    process.env.ORT_DISABLE_TELEMETRY ??= "1"; // ONNX Runtime reads it once, when it is imported
    return import("onnxruntime-node");
  }

  static async open(file) {
    const address = file instanceof URL ? file.href : file;
    if (typeof address !== "string" || /^(https?|blob|data):/.test(address)) return super.open(file);
    const path = address.startsWith("file:") ? fileURLToPath(address) : address;
    const handle = await open(path);
    const read = async (at, length) => {
      const { buffer, bytesRead } = await handle.read(new Uint8Array(length), 0, length, at);
      return buffer.subarray(0, bytesRead);
    };
    return { model: path, read, size: (await handle.stat()).size, close: () => handle.close() };
  }
}
