// The types of the package, checked and never run.

import { Cascade, InputError, OpenInference, type Answer, type Columns } from "edgecascade";

export async function everything(pixels: ImageData): Promise<Answer[]> {
  const remote = new OpenInference("https://models.example/v2/models/large", {
    headers: { Authorization: "Bearer ..." },
  });
  const cascade = await Cascade.load("local.onnx", {
    remote,
    deadline: 0.15,
    egress: ({ image }) => image.dims.length > 0,
  });
  cascade.threshold = -0.2;
  const one = await cascade.predict(pixels);
  const decided: Columns = await cascade.decide({ type: "float32", data: new Float32Array(6), dims: [2, 3] });
  try {
    await cascade.predict([0.5, decided.advantage[0]], { original: "a sentence" });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
  }
  // @ts-expect-error: no such reason
  if (one.reason === "unsure") return [];
  return one.source === "merged" ? [one] : cascade.predictBatch({ data: [1], dims: [1, 1] }, { originals: ["a"] });
}
