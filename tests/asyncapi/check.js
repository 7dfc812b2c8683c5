// Prints what the parser of the authors of AsyncAPI finds in a document: a JSON list of {severity, code, path, message},
// or null in it when it could read no document at all.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const found = diagnostics.map(({ severity, code, path, message }) => ({ severity, code, path: path.join("."), message }));
console.log(JSON.stringify(document === undefined ? [...found, null] : found));
