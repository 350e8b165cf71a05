// Answer jobs from standard input, one JSON list, in Node.

import { text } from "node:stream/consumers";

import * as edgecascade from "edgecascade";

import { answers } from "./answers.mjs";

const found = [];
for (const job of JSON.parse(await text(process.stdin))) found.push(await answers(edgecascade, job));
process.stdout.write(JSON.stringify(found));
