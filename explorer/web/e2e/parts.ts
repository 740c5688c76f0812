/** What the walks share. */
import AxeBuilder from "@axe-core/playwright";
import { expect, test as base, type Page } from "@playwright/test";

/** A test that fails when a request leaves the origin or the page throws. */
export const test = base.extend<{ watched: void }>({
  watched: [
    async ({ page, baseURL }, use) => {
      const foreign: string[] = [];
      const errors: string[] = [];
      page.on("request", (request) => {
        const url = new URL(request.url());
        if (/^(https?|wss?):$/.test(url.protocol) && url.origin !== new URL(baseURL!).origin) foreign.push(request.url());
      });
      page.on("pageerror", (error) => errors.push(error.message));
      await use();
      expect({ foreign, errors }).toEqual({ foreign: [], errors: [] });
    },
    { auto: true },
  ],
});
export { expect };

/** Keep a picture, where SHOTS names a folder. */
export async function shot(page: Page, name: string, fullPage = true): Promise<void> {
  if (!process.env.SHOTS) return;
  await page.waitForLoadState("networkidle");
  await page.evaluate(() => void window.scrollTo(0, 0));
  await page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, fullPage });
}

/** The page has its heading and loads nothing any more. */
export async function settled(page: Page): Promise<void> {
  await expect(page.locator("main h1, main .empty").first()).toBeVisible();
  await expect(page.locator("main .skeleton:visible")).toHaveCount(0);
}

/** No serious or critical violation of accessibility rules. */
export async function accessible(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).exclude(".molstar").analyze();
  const grave = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
  expect(grave.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(" | ")}`), page.url()).toEqual([]);
}

/** Nothing sticks out sideways at a width. */
export async function fits(page: Page, width: number): Promise<void> {
  await page.setViewportSize({ width, height: 900 });
  const over = () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  await expect.poll(over, { message: `${page.url()} at ${width} px` }).toBeLessThanOrEqual(0);
}

/** From the first page by search to a latent of helices. */
export async function openHelix(page: Page): Promise<void> {
  await page.goto("./");
  await page.getByRole("combobox", { name: "Search" }).fill("helix");
  await page.getByRole("option").filter({ has: page.locator(".group", { hasText: "Latents" }) }).click();
  await expect(page).toHaveURL(/\/latent\/\d+/);
  await settled(page);
}
