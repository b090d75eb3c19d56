// Bundles the page and the client: `node build.ts <output folder>`.
import { readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { build } from "esbuild";

const web = import.meta.dirname;
const out = resolve(web, process.argv[2] ?? "../src/broadcast/bridge/static");

const { metafile } = await build({
  absWorkingDir: web,
  entryPoints: [
    { in: "dashboard/index.html", out: "index" },
    { in: "dashboard/style.css", out: "style" },
    { in: "dashboard/plain.css", out: "plain" },
    { in: "client/client.ts", out: "client" },
    { in: "dashboard/main.ts", out: "app" },
  ],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  loader: { ".html": "copy" },
  legalComments: "none",
  outdir: out,
  metafile: true,
  logLevel: "warning",
});

// The licenses of what is bundled ask that their text goes along.
const roots = new Set(
  Object.keys(metafile.inputs)
    .map((path) => /^node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0])
    .filter((root) => root !== undefined),
);
const texts = await Promise.all([...roots].sort().map(license));
await writeFile(join(out, "LICENSES.txt"), texts.join("\n\n"));

async function license(root: string): Promise<string> {
  const read = (file: string): Promise<string> => readFile(join(web, root, file), "utf8");
  const { name, version } = JSON.parse(await read("package.json")) as Record<string, string>;
  const text = await read("LICENSE").catch(() => read("license.md"));
  return `${name} ${version}\n\n${text.trim()}\n`;
}
