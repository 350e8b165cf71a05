// The package in a browser: onnxruntime-web, and files at an address.

import { Cascade as AnyCascade } from "./lib/cascade.js";

export * from "./lib/errors.js";
export { OpenInference } from "./lib/open-inference.js";

export class Cascade extends AnyCascade {
  static engine() {
    return import("onnxruntime-web");
  }
}
