// The document in a cascade file. The bindings cannot read an ONNX file's metadata, so this walks its protobuf fields.

import { ModelFileError } from "./errors.js";

const METADATA = 14; // the field of ModelProto with the metadata; its entries have a key, 1, and a value, 2
const TEXT = new TextDecoder();
const FORMATS = { 1: "a classifier", 2: "a general task" };
const LONGEST = 2 ** 26; // bytes of one entry; golden inputs can be large

/**
 * Return the document of a cascade file, whose `read(at, length)` gives bytes; large fields, such as the graph, are
 * skipped.
 */
export async function documentIn({ read, size }, name) {
  for (let at = 0; at < size;) {
    const head = await read(at, 32);
    const [key, afterKey] = varint(head, 0);
    const [length, start] = (key & 7) === 2 ? varint(head, afterKey) : [0, afterKey];
    const skipped = { 0: () => varint(head, afterKey)[1] - afterKey, 1: () => 8, 2: () => length, 5: () => 4 }[key & 7];
    const next = at + start + (skipped?.() ?? Number.NaN);
    if (!(next <= size)) break; // not an ONNX file, or one that ends early
    if (key >> 3 === METADATA && length <= LONGEST) {
      const entry = strings(await read(at + start, length));
      if (entry[1] === "edgecascade") return checked(entry[2], name);
    }
    at = next;
  }
  throw new ModelFileError(`${name}: expected a cascade file, got one without \`edgecascade\` metadata`);
}

/** Return a document given as JSON text or as its object, of a format that this version reads. */
export function checked(given, name) {
  let document = given;
  try {
    if (typeof given === "string") document = JSON.parse(given);
  } catch (error) {
    throw new ModelFileError(`${name}: its document is damaged: ${error.message}`);
  }
  if (!Object.hasOwn(FORMATS, document?.format)) {
    throw new ModelFileError(`${name}: expected a document of format 1 or 2, got ${document?.format}`);
  }
  const parts =
    document.format === 1 ? [document.labels?.length, document.remote?.temperature] : [document.task?.outputs];
  if (typeof document.policy?.threshold !== "number" || parts.includes(undefined)) {
    throw new ModelFileError(`${name}: expected the document of ${FORMATS[document.format]}, got one that lacks parts`);
  }
  return document;
}

/** Return the texts of a message by field number. */
function strings(message) {
  const found = {};
  for (let at = 0; at < message.length;) {
    const [key, afterKey] = varint(message, at);
    const [length, start] = varint(message, afterKey);
    found[key >> 3] = TEXT.decode(message.subarray(start, start + length));
    at = start + length;
  }
  return found;
}

/** Return the unsigned integer at a place, and the place after it. */
function varint(bytes, at) {
  let value = 0;
  for (let scale = 1; at < bytes.length; scale *= 128) {
    const byte = bytes[at++];
    value += (byte & 127) * scale;
    if (byte < 128) return [value, at];
  }
  return [Number.NaN, at];
}
