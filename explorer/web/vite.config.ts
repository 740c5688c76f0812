import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// Paths are relative to <base href> of index.html, which a static export rewrites: see README.md.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: { target: "es2022", chunkSizeWarningLimit: 1500, assetsInlineLimit: 0 },
  server: { proxy: { "/api": process.env.EXPLORER_URL ?? "http://127.0.0.1:8000" } },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
