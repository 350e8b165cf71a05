// Read inputs as the tensors that a file declares.

import { InputError } from "./errors.js";

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  string: Array,
};

export class ModelInputs {
  #declared;
  #Tensor;

  /** @param declared the metadata of the session's inputs */
  constructor(declared, Tensor) {
    this.#declared = declared.map(({ name, type, shape }) => ({ name, type, sides: shape.slice(1).map(length) }));
    this.#Tensor = Tensor;
    /** How many inputs the file takes at once, or undefined for any number. */
    this.batch = length(declared[0]?.shape[0]);
  }

  /** Return one input, without the batch axis, as tensors [1, ...] by name. */
  one(x) {
    return this.#each(x, (given, { type, sides }, name) => {
      const { data, dims = known(sides, data) } = values(given, type, sides, name);
      check(name, given, type, data, dims, sides);
      return this.#tensor(name, type, data, [1, ...dims]);
    });
  }

  /** Return inputs with the batch axis as tensors [n, ...] by name, and their number. */
  many(x) {
    const feeds = this.#each(x, (given, { type, sides }, name) => {
      const { data, dims } = values(given, type, [], name);
      check(name, given, type, data, dims, [undefined, ...sides]);
      return this.#tensor(name, type, data, Array.from(dims));
    });
    const counts = Object.values(feeds).map((tensor) => tensor.dims[0]);
    if (new Set(counts).size > 1) {
      throw new InputError(`x: expected as many inputs in every array, got ${counts.join(" and ")}`);
    }
    return [feeds, counts[0]];
  }

  #tensor(name, type, data, dims) {
    try {
      return new this.#Tensor(type, data, dims);
    } catch (error) {
      throw new InputError(`${name}: expected a tensor of onnxruntime, got none: ${error.message}`);
    }
  }

  #each(x, read) {
    const [only] = this.#declared;
    if (this.#declared.length === 1 && isOne(x)) return { [only.name]: read(x, only, "x") };
    const names = this.#declared.map((one) => one.name);
    const given = x !== null && typeof x === "object" && !isOne(x) ? Object.keys(x) : [];
    if (given.length !== names.length || !names.every((name) => given.includes(name))) {
      throw new InputError(`x: expected one array for each of ${names}, got ${given.join(", ") || typeof x}`);
    }
    return Object.fromEntries(this.#declared.map((one) => [one.name, read(x[one.name], one, `x.${one.name}`)]));
  }
}

/** Return rows of tensors [n, ...] by name as tensors of their own. */
export function rows(tensors, places) {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { type, data, dims }]) => {
      const size = data.length / dims[0];
      const chosen = Array.isArray(data) ? [] : new data.constructor(places.length * size);
      places.forEach((row, at) => {
        for (let k = 0; k < size; k++) chosen[at * size + k] = data[row * size + k];
      });
      return [name, { type, data: chosen, dims: [places.length, ...dims.slice(1)] }];
    }),
  );
}

/** Return the length of a side, or undefined if it is free. */
function length(side) {
  return typeof side === "number" && side >= 0 ? side : undefined;
}

function isOne(x) {
  return Array.isArray(x) || ArrayBuffer.isView(x) || ArrayBuffer.isView(x?.data) || Array.isArray(x?.data);
}

/** Return whether an object has as many data as its sides say. */
export function fits({ data, dims } = {}) {
  const array = Array.isArray(data) || (ArrayBuffer.isView(data) && data.length !== undefined);
  return array && areSides(dims) && data.length === Array.from(dims).reduce((one, other) => one * other, 1);
}

/** Return whether these are whole numbers of 0 or more. */
export function areSides(dims) {
  return (Array.isArray(dims) || ArrayBuffer.isView(dims)) && dims.every?.((side) => Number.isInteger(side) && side >= 0);
}

/** Return data and dims of a tensor, a typed array, a list of numbers, or the pixels of an image without alpha. */
function values(given, type, sides, name) {
  if (ArrayBuffer.isView(given)) return { data: given };
  if (Array.isArray(given)) return { data: listed(given, type, name) };
  const { data, dims, width, height } = given ?? {};
  if (Array.isArray(data)) return { data: listed(data, type, name), dims };
  if (dims !== undefined || type !== "uint8" || sides.length !== 3 || data?.length !== 4 * width * height) {
    return { data, dims };
  }
  const pixels = new Uint8Array(3 * width * height);
  for (let at = 0; at < pixels.length; at++) pixels[at] = data[4 * Math.floor(at / 3) + (at % 3)];
  return { data: pixels, dims: [height, width, 3] };
}

/** Return a list as an array of a type that can hold each of its values. */
function listed(list, type, name) {
  const Kind = ARRAYS[type];
  const big = type.endsWith("int64");
  const data = type === "string" || !Kind ? [] : new Kind(list.length);
  for (let k = 0; k < list.length; k++) {
    if (!holds(type, Kind, list[k])) {
      throw new InputError(`${name}: expected values of ${type}, got ${typeof list[k]} ${shown(list[k])} at ${k}`);
    }
    data[k] = type === "string" ? list[k] : big ? BigInt(list[k]) : Number(list[k]);
  }
  return data;
}

function holds(type, Kind, value) {
  const kind = typeof value;
  if (type === "string") return kind === "string";
  if (type === "bool") return kind === "boolean" || value === 0 || value === 1;
  if (!Kind || (kind !== "number" && kind !== "bigint")) return false;
  if (type.endsWith("int64")) {
    if (kind === "number" && !Number.isInteger(value)) return false;
    return Kind.of(BigInt(value))[0] == value; // one may be a number, the other a bigint
  }
  const [kept] = Kind.of(Number(value));
  if (type.startsWith("int") || type.startsWith("uint")) return kept == value;
  // Before Float16Array, an array of float16 has their bits, which no number stands for.
  return Kind !== Uint16Array && (Number.isFinite(kept) || !Number.isFinite(Number(value)));
}

function shown(value) {
  return ["number", "bigint", "boolean"].includes(typeof value) ? String(value) : "";
}

/** Return the sides of an array of which only the length is known, if at most one side is free. */
function known(sides, data) {
  let free = 0;
  let rest = 1;
  for (const side of sides) {
    if (side === undefined) free++;
    else rest *= side;
  }
  return free > 1 ? undefined : sides.map((side) => side ?? data?.length / rest);
}

function check(name, given, type, data, dims, sides) {
  const Kind = ARRAYS[type];
  let right = Kind && data instanceof Kind && (given.type ?? type) === type;
  right &&= dims?.length === sides.length && areSides(dims);
  let size = 1;
  for (let k = 0; right && k < sides.length; k++) {
    right = sides[k] === undefined || sides[k] === dims[k];
    size *= dims[k];
  }
  if (right && data.length === size) return;
  const wanted = sides.map((side) => side ?? "any").join(", ");
  const found = areSides(dims) ? dims.join(", ") : (dims ?? data?.length ?? "");
  throw new InputError(
    `${name}: expected ${type} [${wanted}], got ${given?.type ?? data?.constructor?.name ?? typeof given} [${found}]`,
  );
}
