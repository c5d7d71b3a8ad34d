// Builds dist/ from src/: the same bytes from the same sources. `node build.mjs DIR` writes to another directory.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const out = process.argv[2] ?? 'dist';
mkdirSync(out, { recursive: true });
const built = await build({
  entryPoints: { app: 'src/main.tsx' },
  bundle: true,
  minify: true,
  write: false,
  outdir: out,
  format: 'iife',
  target: ['es2022'],
  charset: 'utf8',
  legalComments: 'none',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  loader: { '.css': 'css' },
});
const files = Object.fromEntries(built.outputFiles.map((file) => [file.path.split('/').pop(), file.contents]));
files['index.html'] = readFileSync('src/index.html');
for (const [name, contents] of Object.entries(files)) {
  const packed = gzipSync(contents, { level: 9 });
  // The header's time and system are of no use, and would be those of the machine (RFC 1952).
  packed.fill(0, 4, 8);
  packed[9] = 255;
  writeFileSync(`${out}/${name}`, contents);
  writeFileSync(`${out}/${name}.gz`, packed);
  writeFileSync(`${out}/${name}.tag`, createHash('sha256').update(contents).digest('hex').slice(0, 16));
  console.log(`${name}: ${contents.length} bytes, ${packed.length} as it is sent`);
}
