// Reads a JSON list of AsyncAPI documents, each as text, from stdin; writes what npm's parser finds wrong with each of
// them to stdout, as a JSON list of lists. The argument is the parser's browser build, which looks for its globals
// under these names.
globalThis.self = globalThis;
globalThis.window = globalThis;
const { readFileSync } = require("node:fs");
const Parser = require(process.argv[2]);

async function check(text) {
  const { document, diagnostics } = await new Parser().parse(text);
  const errors = diagnostics.filter((one) => one.severity === 0);
  const problems = errors.map((one) => `${one.path.join("/")}: ${one.message}`);
  return document || problems.length > 0 ? problems : ["no document, and no reason given"];
}

async function main() {
  const found = [];
  for (const text of JSON.parse(readFileSync(0, "utf8"))) found.push(await check(text));
  process.stdout.write(JSON.stringify(found));
}

main();
