// Answer the inputs of a job as a test describes it, in Node or in a browser.

const ARRAYS = { float32: Float32Array, uint8: Uint8Array, int64: BigInt64Array, int32: Int32Array };

/** Return the tensor that a test wrote as type, dims and base64. */
function tensor({ type, dims, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  return { type, dims, data: new ARRAYS[type](bytes.buffer) };
}

/** Return a value with numbers that JSON lacks as text, and arrays as lists. */
function shown(value) {
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (typeof value === "bigint") return Number(value);
  if (ArrayBuffer.isView(value) || Array.isArray(value)) return Array.from(value, shown);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries({ ...value }).map(([name, one]) => [name, shown(one)]));
}

/** A remote whose scores are the rows of a table that the input, a row number, points to. */
function lookup({ data, dims }) {
  return async ({ original }) => {
    const rows = Array.from(original.data, Number);
    const size = dims[1];
    return {
      dims: [rows.length, size],
      data: rows.flatMap((row) => Array.from(data.slice(row * size, (row + 1) * size))),
    };
  };
}

export async function answers({ Cascade, OpenInference }, { file, method, x, originals, table, address, ...options }) {
  const given = Array.isArray(originals) ? originals : originals && tensor(originals);
  try {
    const remote = table ? lookup(tensor(table)) : address ? new OpenInference(...address) : options.remote;
    const cascade = await Cascade.load(file, { ...options, remote });
    const one = x.dims && tensor(x);
    const inputs = one ?? Object.fromEntries(Object.entries(x).map(([name, value]) => [name, tensor(value)]));
    const found = await cascade[method](inputs, { original: given, originals: given });
    await cascade.close();
    return shown(found);
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}
