/** The same pages from plain files. */
import { expect, openHelix, settled, test } from "./parts";

test("a static copy reads the same, and hides what needs a server", async ({ page }) => {
  await page.goto("./");
  await settled(page);
  await expect(page.getByText("static copy")).toBeVisible();
  for (const name of ["Play", "Steer", "Compare", "Lists", "Rate"]) await expect(page.getByRole("link", { name, exact: true })).toHaveCount(0);
  await openHelix(page);
  await expect(page.locator(".striprow:not(.measure)").first()).toBeVisible();
  await expect(page.getByLabel("Note", { exact: true })).toHaveCount(0);
  const heading = await page.getByRole("heading", { level: 1 }).textContent();
  await page.reload(); // through 404.html
  await expect(page.getByRole("heading", { level: 1 })).toHaveText(heading!);
  await page.goto("?q=MKTAYIAKQRQISFVKSHFSRQ");
  await expect(page.locator("main .empty")).toContainText("need the server");
});
