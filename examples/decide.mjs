// Answer an image in Node: decide on the device, and ask the remote where it is expected to do better.
//
// npm install --install-links --ignore-scripts PATH/TO/edgecascade/runtime/js onnxruntime-node
// ffmpeg -i photo.jpg -f rawvideo -pix_fmt rgb24 photo.rgb
// node decide.mjs local.onnx photo.rgb 480 640 http://HOST:8000/v2/models/large    # height, width

import { readFile } from "node:fs/promises";

import { Cascade } from "edgecascade";

const [file, image, height, width, remote] = process.argv.slice(2);
const cascade = await Cascade.load(file, { remote, deadline: 0.5 });
try {
  const data = new Uint8Array(await readFile(image));
  const answer = await cascade.predict({ type: "uint8", data, dims: [Number(height), Number(width), 3] });
  console.log(`${answer.name} ${answer.confidence.toFixed(2)} (${answer.source}, ${answer.reason})`);
} finally {
  await cascade.close();
}
