// Calibrate the remote's scores on the device, and merge both predictions, in the arithmetic of the Python package.

import { InvalidReply } from "./errors.js";
import { fits } from "./inputs.js";

const SMALLEST = 1.17549435e-38; // the floor of probabilities that were not rounded
const fround = Math.fround;

/**
 * Return the calibrated prediction of each row of a remote's scores, or an InvalidReply for a row that is no answer.
 *
 * @param scores {data, dims} of n rows
 * @param columns the column of each class, or undefined if they are in the order of the labels
 */
export function calibrated(scores, n, document, columns) {
  const { labels, remote } = document;
  const probabilities = remote.scores === "probabilities";
  const rows = table(scores, n, labels.length, probabilities);
  if (!probabilities && rows.every(areProbabilities)) {
    throw new InvalidReply(
      "remote: expected logits, as in calibration, got probabilities; name the output with logits",
    );
  }
  const floor = remote.floor ?? SMALLEST;
  return rows.map((row) => {
    const most = row.reduce((one, other) => (other > one || Number.isNaN(other) ? other : one), -Infinity);
    const usable = Number.isFinite(most) && (!probabilities || (most > 0 && row.every((p) => p >= -1e-6)));
    if (!usable) return new InvalidReply(`remote: expected ${probabilities ? "probabilities" : "finite scores"}`);
    const ordered = columns ? columns.map((column) => row[column]) : row;
    const logits = probabilities ? ordered.map((p) => Math.log(Math.max(p, floor))) : ordered;
    const found = softmax(logits, remote.temperature);
    const label = labelOf(found, document.policy.costs);
    return { label, confidence: mapped(found[label], remote), probabilities: found, outputs: {} };
  });
}

/** Return the merged prediction of two, and its source. */
export function merge(rule, local, remote, costs) {
  if (rule === "replace" || Number.isNaN(local.confidence)) return [remote, "remote"];
  if (rule === "confident") {
    const surer = costs
      ? Math.min(...expected(local.probabilities, costs)) < Math.min(...expected(remote.probabilities, costs))
      : local.confidence > remote.confidence;
    return surer ? [local, "local"] : [remote, "remote"];
  }
  const mean = local.probabilities.map((p, k) => fround(fround(p + remote.probabilities[k]) * 0.5));
  const label = labelOf(mean, costs);
  return [{ label, confidence: mean[label], probabilities: mean, outputs: {} }, "merged"];
}

function softmax(logits, temperature) {
  const scaled = logits.map((z) => z / temperature);
  const largest = scaled.reduce((one, other) => Math.max(one, other));
  const raised = scaled.map((z) => Math.exp(z - largest));
  const total = raised.reduce((one, other) => one + other);
  return Float32Array.from(raised, (one) => one / total);
}

/** Return the label of calibrated probabilities: the most probable class, or that of the least expected cost. */
function labelOf(probabilities, costs) {
  if (!costs) return first(probabilities, (one, best) => one > best);
  if (Array.isArray(costs[0])) return first(expected(probabilities, costs), (one, best) => one < best);
  const shares = sharesOf(costs);
  return first(
    probabilities.map((p, k) => fround(p * shares[k])),
    (one, best) => one > best,
  );
}

/** Return the expected cost of each answer, as a share of the costliest error. */
function expected(probabilities, costs) {
  const shares = sharesOf(costs);
  if (Array.isArray(costs[0])) {
    return probabilities.map((_, j) => probabilities.reduce((sum, p, i) => fround(sum + fround(p * shares[i][j])), 0));
  }
  const weighted = probabilities.map((p, k) => fround(p * shares[k]));
  const total = weighted.reduce((sum, one) => fround(sum + one));
  return weighted.map((one) => fround(total - one));
}

function sharesOf(costs) {
  const largest = Math.max(...costs.flat());
  return costs.map((one) => (Array.isArray(one) ? one.map((cost) => fround(cost / largest)) : fround(one / largest)));
}

/** Return the confidence for the probability of a label: its value under the map, if there is one. */
function mapped(probability, { knots, values }) {
  if (!knots) return probability;
  const above = knots.findIndex((knot) => knot > probability);
  if (above <= 0) return fround(values[above === 0 ? 0 : values.length - 1]);
  const slope = (values[above] - values[above - 1]) / (knots[above] - knots[above - 1]);
  return fround(slope * (probability - knots[above - 1]) + values[above - 1]);
}

/** Return scores as n rows of numbers, one per class. */
function table(scores, n, classes, probabilities) {
  const { data, dims } = scores ?? {};
  let sides = Array.from(dims ?? []);
  if (sides.length > 2) sides = [sides[0], ...sides.slice(1).filter((side) => side !== 1)];
  const binary = classes === 2 && sides[0] === n && (sides.length === 1 || (sides.length === 2 && sides[1] === 1));
  if (!binary && (sides.length !== 2 || sides[0] !== n || sides[1] !== classes)) {
    throw new InvalidReply(`remote: expected numbers [${n}, ${classes}], got [${Array.from(dims ?? []).join(", ")}]`);
  }
  if (!fits(scores) || !data.every((one) => ["number", "bigint"].includes(typeof one))) {
    throw new InvalidReply(`remote: expected ${n * (binary ? 1 : classes)} numbers as data, got others`);
  }
  const numbers = Array.from(data, Number);
  if (binary) return numbers.map((second) => [(probabilities ? 1 : second) - second, second]);
  return Array.from({ length: n }, (_, i) => numbers.slice(i * classes, (i + 1) * classes));
}

/** Return whether a row sums to 1 within what float16 rounds off, and is not certain, as no logits do. */
function areProbabilities(row) {
  return row.every((p) => p >= 0 && p < 1) && Math.abs(row.reduce((sum, p) => sum + p) - 1) < 1e-3;
}

function first(numbers, better) {
  let at = 0;
  for (let k = 1; k < numbers.length; k++) if (better(numbers[k], numbers[at])) at = k;
  return at;
}
