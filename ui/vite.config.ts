import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// `npm run dev` shows the mock server's mesh, or a real one with WEFT_URL.
const backend = process.env['WEFT_URL'] ?? 'http://127.0.0.1:8499';

export default defineConfig({
  plugins: [svelte()],
  build: { target: 'es2022', reportCompressedSize: true, modulePreload: { polyfill: false } },
  server: { host: '127.0.0.1', proxy: { '/api': backend } },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
