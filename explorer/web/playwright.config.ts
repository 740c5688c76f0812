/**
 * Walks through the pages in a real browser. Servers are started by who calls: `tests/explorer/test_browser.py`
 * and `make screenshots`. Their addresses come in EXPLORER_URL (read-only pages), EXPLORER_LIVE_URL and
 * EXPLORER_STATIC_URL; a project without its address is left out.
 */
import { defineConfig, type Project } from "@playwright/test";

const PROJECTS: [name: string, address: string | undefined][] = [
  ["pages", process.env.EXPLORER_URL],
  ["static", process.env.EXPLORER_STATIC_URL],
  ["live", process.env.EXPLORER_LIVE_URL],
];

export default defineConfig({
  testDir: "e2e",
  timeout: 120_000,
  expect: { timeout: 15_000 },
  workers: 1,
  reporter: [["list"]],
  outputDir: "test-results",
  use: {
    viewport: { width: 1500, height: 1100 },
    colorScheme: "light",
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
    },
  },
  projects: PROJECTS.flatMap(([name, baseURL]): Project[] => (baseURL ? [{ name, testMatch: `${name}.spec.ts`, use: { baseURL } }] : [])),
});
