// Match a remote's classes with those of the file by name.

import { InvalidReply } from "./errors.js";

const KEYS = ["edgecascade.labels", "names", "class_names", "classes", "labels", "id2label"];

/** Return the class names in the metadata of a served model, in the order of its scores; none if it tells none. */
export function classNamesIn({ properties, parameters, outputs }) {
  for (const part of [properties, ...(outputs ?? []).map((one) => one.parameters), parameters]) {
    if (part === null || typeof part !== "object") continue;
    const names = [parsed(part.edgecascade)?.labels, ...KEYS.map((key) => parsed(part[key]))].map(listed);
    const found = names.find((one) => one.length > 0);
    if (found) return found;
  }
  return [];
}

/** Return the column of the scores for each label, or `columns`, found in calibration, if either has no names. */
export function columnsFor(labels, names, columns) {
  const unnamed = [labels, names].some((some) => some.every((name, k) => numbered(name) === k));
  if (unnamed || labels.length !== names.length) return columns;
  const found = positions(labels, names, (name) => name) ?? positions(labels, names, loosely);
  if (!found) {
    throw new InvalidReply(`remote: expected the classes ${some(labels)}, got ${some(names)}`);
  }
  return found;
}

function positions(labels, names, form) {
  const theirs = names.map(form);
  const ours = labels.map(form);
  if (new Set(ours).size < ours.length || new Set(theirs).size < theirs.length) return undefined;
  const found = ours.map((name) => theirs.indexOf(name));
  return found.includes(-1) ? undefined : found;
}

/** Return a name in lower case without punctuation; a name without letters stays as it is. */
function loosely(name) {
  const plain = name.normalize("NFKC").toLowerCase();
  return /\p{L}/u.test(plain) ? plain.replace(/[^\p{L}\p{N}]+/gu, "") : name;
}

function numbered(name) {
  const match = /^(?:LABEL_)?([0-9]{1,9})$/.exec(name);
  return match ? Number(match[1]) : undefined;
}

function listed(value) {
  const list =
    value !== null && typeof value === "object" && !Array.isArray(value)
      ? Array.from({ length: Object.keys(value).length }, (_, k) => value[k])
      : value;
  const names = Array.isArray(list) && list.every((one) => typeof one === "string" || Number.isInteger(one));
  return names ? list.map(String) : [];
}

function parsed(value) {
  if (typeof value !== "string") return value;
  try {
    return /^[[{]/.test(value) ? JSON.parse(value) : undefined;
  } catch {
    return undefined;
  }
}

function some(names) {
  return names.length > 20 ? `${names.slice(0, 20).join(", ")} and ${names.length - 20} more` : names.join(", ");
}
