// Time a cascade file in Node beside its body without the decision; studies/javascript.py says what it is for.

import { createRequire } from "node:module";
import { text } from "node:stream/consumers";

const { main, bare, file, builds, rounds } = JSON.parse(await text(process.stdin));
const { Cascade } = await import(main);
const { InferenceSession, Tensor, env } = createRequire(main)("onnxruntime-node");
const options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4 };
const found = {};
const alive = [];

function input(seed) {
  let state = seed;
  const next = () => (state = (state * 1103515245 + 12345) % 2147483648) / 1073741824 - 1;
  return Float32Array.from({ length: 784 }, next);
}

const inputs = Array.from({ length: 64 }, (_, seed) => input(seed));
for (let build = 0; build < builds; build++) {
  const body = await InferenceSession.create(bare, options);
  const whole = await InferenceSession.create(file, options);
  const cascade = await Cascade.load(file, { threshold: -1 });
  alive.push([body, whole, cascade]); // so that each build has its own memory
  const functions = {
    body: (x) => body.run({ x: new Tensor("float32", x, [1, 784]) }),
    file: (x) => whole.run({ x: new Tensor("float32", x, [1, 784]) }),
    predict: (x) => cascade.predict(x),
  };
  const names = Object.keys(functions);
  const seconds = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = -50; round < rounds; round++) {
    for (let k = 0; k < names.length; k++) {
      const name = names[(k + round + 51) % names.length];
      const x = inputs[(round + 50) % inputs.length];
      const started = performance.now();
      await functions[name](x);
      if (round >= 0) seconds[name].push((performance.now() - started) / 1000);
    }
  }
  for (const name of names) (found[name] ??= []).push(median(seconds[name]));
}
const versions = { node: process.versions.node, "onnxruntime-node": env.versions.node ?? env.versions.common };
process.stdout.write(JSON.stringify({ versions, seconds: found }));

function median(values) {
  return values.sort((one, other) => one - other)[Math.floor(values.length / 2)];
}
