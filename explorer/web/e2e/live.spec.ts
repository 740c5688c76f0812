/**
 * A new user's walk: paste insulin, find what fires, mutate a cysteine, clamp a latent up, compare two
 * dictionaries. Needs a server with --live of at least one bundle (two of one model for the last step);
 * SHOTS=folder keeps a picture of every step.
 */
import { expect, test, type Page } from "@playwright/test";

const INSULIN = "MALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKTRREAEDLQVGQVELGGGPGAGSLQPLALEGSLQKRGIVEQCCTSICSLYQLENYCN";

async function shot(page: Page, name: string): Promise<void> {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, fullPage: true });
}

/** No request leaves the origin, and nothing is logged as an error. */
function watch(page: Page): { foreign: string[]; errors: string[] } {
  const seen = { foreign: [] as string[], errors: [] as string[] };
  page.on("request", (r) => {
    const url = new URL(r.url());
    if (/^https?:$/.test(url.protocol) && url.origin !== new URL(test.info().project.use.baseURL!).origin) seen.foreign.push(r.url());
  });
  page.on("pageerror", (e) => seen.errors.push(e.message));
  return seen;
}

test("paste insulin, find what fires, mutate a cysteine", async ({ page }) => {
  const seen = watch(page);
  await page.goto("play");
  await expect(page.getByText("No sequence yet")).toBeVisible();
  await page.getByLabel("Sequence, FASTA, PDB or mmCIF").fill(`>sp|P01308|INS_HUMAN Insulin\n${INSULIN}\n`);
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.getByRole("heading", { name: /latents? fire on 110 residues/ })).toBeVisible({ timeout: 60_000 });
  await expect(page).toHaveURL(new RegExp(`seq=${INSULIN}`));
  await shot(page, "play-1-insulin");

  await page.locator(".heatname button").first().click();
  await expect(page.getByText("your sequence", { exact: true })).toBeVisible();
  await expect(page).toHaveURL(/latent=\d+/);

  await page.getByLabel("Mutation").fill("C96S");
  await page.getByRole("button", { name: "Compare" }).click();
  await expect(page.getByText(/\d+ appear/)).toBeVisible({ timeout: 30_000 });
  await expect(page.getByText(/\d+ vanish/)).toBeVisible();
  await expect(page).toHaveURL(/mut=C96S/);
  await shot(page, "play-2-mutant");

  // the address alone brings the same view back
  await page.reload();
  await expect(page.getByText(/\d+ appear/)).toBeVisible({ timeout: 30_000 });

  // a click on the letter above the heatmap offers what it may become
  await page.getByLabel("Mutation").fill("A96S");
  await page.getByRole("button", { name: "Compare" }).click();
  await expect(page.getByText("residue 96 is C, not A")).toBeVisible();
  expect(seen).toEqual({ foreign: [], errors: [] });
});

test("a wrong sequence is answered with the record and the position", async ({ page }) => {
  await page.goto("play");
  await page.getByLabel("Sequence, FASTA, PDB or mmCIF").fill(">good\nMKT\n>bad\nMK1T\n");
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.getByRole("alert")).toHaveText(/record 2 \(bad\): illegal character '1' at position 3/);
});

test("a scan shows its progress and stops", async ({ page }) => {
  await page.goto(`play?seq=${INSULIN}`);
  await page.locator(".heatname button").first().click();
  await page.getByRole("tab", { name: /all 110/ }).click();
  await page.getByRole("button", { name: /Scan/ }).click();
  await expect(page.getByRole("progressbar")).toBeVisible();
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: /Scan/ })).toBeVisible();
});

test("clamp a latent up and watch the heatmap", async ({ page }) => {
  const seen = watch(page);
  await page.goto(`play?seq=${INSULIN}`);
  await page.locator(".heatname button").first().click();
  await page.getByRole("link", { name: "Steer with it" }).click();
  await expect(page).toHaveURL(/\/steer\?.*ops=/);
  const norm = page.locator(".figure", { hasText: "Mean |Δ log p|" }).locator("dd");
  await expect(norm).toBeVisible({ timeout: 60_000 });
  const weak = await norm.textContent();
  await shot(page, "steer-1-clamped");

  const latent = /ops=(\d+)/.exec(page.url())![1]!;
  await page.getByRole("button", { name: /^Remove/ }).click();
  await expect(page.getByText("No edit yet")).toBeVisible();
  await page.getByLabel("Latent", { exact: true }).fill(latent);
  await page.getByLabel("Strength").fill("4");
  await page.getByRole("button", { name: "Add" }).click();
  await expect(norm).toBeVisible({ timeout: 30_000 });
  const strong = await norm.textContent();
  expect(parseFloat(strong!)).toBeGreaterThan(parseFloat(weak!));

  await page.getByRole("button", { name: "Run", exact: true }).last().click();
  await expect(page.getByText(/One protein is no verdict/)).toBeVisible({ timeout: 60_000 });
  await page.getByLabel("Number").fill("2");
  await page.getByRole("button", { name: "Write" }).click();
  await expect(page.getByText("the edited model", { exact: true })).toBeVisible({ timeout: 90_000 });
  await shot(page, "steer-2-dose-and-variants");
  expect(seen).toEqual({ foreign: [], errors: [] });
});

test("compare two dictionaries", async ({ page, request }) => {
  const live = (await (await request.get("api/v1/live")).json()) as { saes: unknown[] };
  test.skip(live.saes.length < 2, "one dictionary only");
  const seen = watch(page);
  await page.goto("compare");
  await expect(page.getByRole("heading", { name: "Matches" })).toBeVisible({ timeout: 60_000 });
  await page.getByRole("button", { name: "Both" }).first().click();
  await expect(page.locator(".striprow:not(.measure)").first()).toBeVisible();
  await expect(page).toHaveURL(/la=\d+&lb=\d+/);
  await page.getByRole("tab", { name: /merge/ }).click();
  await expect(page.getByText("F1 > 0.5 in both")).toBeVisible();
  await shot(page, "compare");
  expect(seen).toEqual({ foreign: [], errors: [] });
});

test("a motif as my label", async ({ page }) => {
  await page.goto("play?view=labels");
  await page.getByLabel("PROSITE pattern").fill("C-x(2,4)-C");
  await page.getByRole("button", { name: "Find the latents" }).click();
  await expect(page.getByText("Chosen latent").or(page.getByText("Not scored"))).toBeVisible({ timeout: 60_000 });
  await shot(page, "labels");
});

for (const path of ["play", "steer", "compare"]) {
  test(`${path} fits a narrow screen`, async ({ page }) => {
    await page.setViewportSize({ width: 360, height: 800 });
    await page.emulateMedia({ colorScheme: "dark" });
    await page.goto(`${path}?seq=${INSULIN}&ops=3:set:1`);
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    await page.waitForTimeout(4000);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    await shot(page, `narrow-${path}`);
    expect(over).toBeLessThanOrEqual(0);
  });
}
