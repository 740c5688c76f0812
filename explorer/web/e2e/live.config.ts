/** The walk through the live pages: `EXPLORER_URL=http://127.0.0.1:8000/ npx playwright test -c e2e/live.config.ts` */
import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: ".",
  testMatch: "live.spec.ts",
  timeout: 120_000,
  workers: 1,
  reporter: [["line"]],
  outputDir: "../test-results/live",
  use: {
    baseURL: process.env.EXPLORER_URL ?? "http://127.0.0.1:8000/",
    viewport: { width: 1500, height: 1100 },
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
    },
  },
});
