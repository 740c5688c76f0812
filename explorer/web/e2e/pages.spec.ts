/** The read-only pages, used as a person would. Any bundle with a structure and a concept "helix" will do. */
import type { APIRequestContext } from "@playwright/test";
import { accessible, expect, fits, openHelix, settled, shot, test } from "./parts";

type Named = { id: string };
const firstSae = async (request: APIRequestContext): Promise<string> => ((await (await request.get("api/v1/saes")).json()) as Named[])[0]!.id;

test("find a helix latent, read its examples, see it on a structure, send the link", async ({ page }) => {
  await page.goto("./");
  await settled(page);
  await shot(page, "home");
  await openHelix(page);
  await expect(page.getByRole("heading", { level: 1 })).toContainText("helix");
  const tabs = page.getByRole("tablist", { name: "Which examples" });
  await expect(page.locator(".striprow:not(.measure)").first()).toBeVisible();
  const said = page.locator(".examples .toolrow .note");
  for (const [tab, sentence] of [["Tenth 5", "Tenth 5"], ["Random", "Any proteins"], ["Near misses", "stays silent"], ["Top", "highest values"]] as const) {
    await tabs.getByRole("tab", { name: tab }).click();
    await expect(said).toContainText(sentence);
  }

  // the structure: what is under the mouse on a strip is lit on it
  const stage = page.locator(".structure .stage");
  const accession = (await page.locator(".structure h2 .mono").textContent())!;
  await expect(stage).toHaveAttribute("data-drawn", accession, { timeout: 60_000 });
  const strip = page.getByRole("cell", { name: new RegExp(`^${accession},`) });
  await strip.scrollIntoViewIfNeeded();
  const box = (await strip.boundingBox())!;
  let x = 0.3;
  await expect(async () => {
    x = x < 0.7 ? x + 0.05 : 0.3; // a strip may be blank at its ends
    await page.mouse.move(box.x + x * box.width, box.y + 8);
    await expect(stage).toHaveAttribute("data-hover", /^\d+$/, { timeout: 1500 });
  }).toPass({ timeout: 20_000 });
  await page.mouse.move(0, 0);
  await strip.focus();
  await page.keyboard.press("ArrowRight");
  const lit = await stage.getAttribute("data-hover");
  await page.keyboard.press("ArrowRight");
  await expect(stage).toHaveAttribute("data-hover", String(Number(lit) + 1));
  await page.mouse.move(0, 0);
  await strip.blur();
  await shot(page, "latent", false);

  // the address brings the same view back
  await tabs.getByRole("tab", { name: "Near misses" }).click();
  await expect(page).toHaveURL(/tab=near_miss/);
  const sentence = await said.textContent();
  await page.reload();
  await settled(page);
  await expect(said).toHaveText(sentence!);
  await expect(tabs.getByRole("tab", { name: "Near misses" })).toHaveAttribute("aria-selected", "true");
});

test("lasso in the map", async ({ page, request }) => {
  await page.goto(`sae/${encodeURIComponent(await firstSae(request))}`);
  await settled(page);
  await shot(page, "sae");
  const title = page.locator(".latentfilters").getByRole("heading").first();
  const all = await title.textContent();
  await page.getByRole("button", { name: "Lasso" }).click();
  const box = (await page.locator(".atlasmap canvas").first().boundingBox())!;
  const at = (x: number, y: number): [number, number] => [box.x + x * box.width, box.y + y * box.height];
  await page.mouse.move(...at(0.5, 0.05));
  await page.mouse.down();
  for (const [x, y] of [[0.95, 0.05], [0.95, 0.95], [0.5, 0.95], [0.5, 0.06]] as const) await page.mouse.move(...at(x, y), { steps: 4 });
  await page.mouse.up();
  await expect(page).toHaveURL(/lasso=/);
  await expect(title).not.toHaveText(all!);
  const chosen = await title.textContent();
  await page.reload();
  await settled(page);
  await expect(title).toHaveText(chosen!);
  await shot(page, "sae-lasso");
  await page.keyboard.press("Escape");
  await expect(title).toHaveText(all!);
});

test("keys: / searches, j and k go on, r anywhere", async ({ page, request }) => {
  const sae = await firstSae(request);
  await page.goto(`sae/${encodeURIComponent(sae)}/latent/1`);
  await settled(page);
  await page.keyboard.press("/");
  await expect(page.getByRole("combobox", { name: "Search" })).toBeFocused();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await expect(page).toHaveURL(/\/latent\/2/);
  await page.keyboard.press("k");
  await expect(page).toHaveURL(/\/latent\/1/);
  await page.keyboard.press("r");
  await expect(page).not.toHaveURL(/\/latent\/1(\?|$)/);
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog")).toContainText("Next latent");
});

test("a protein, its latents and its structure", async ({ page }) => {
  await openHelix(page);
  const accession = (await page.locator(".striprow:not(.measure) .who a").first().textContent())!;
  await page.locator(".striprow:not(.measure) .who a").first().click();
  await expect(page.getByRole("heading", { level: 1 })).toContainText(accession);
  await settled(page);
  await page.getByLabel("Order").selectOption("position");
  await expect(page).toHaveURL(/order=position/);
  await shot(page, "protein", false);
});

test("concepts, one of them, and its best latent", async ({ page }) => {
  await page.goto("concepts");
  await settled(page);
  await shot(page, "concepts");
  await page.getByLabel("Filter by name").fill("helix");
  await page.getByRole("link", { name: "helix", exact: true }).click();
  await expect(page.getByRole("heading", { level: 1 })).toContainText("helix");
  await settled(page);
  await shot(page, "concept");
});

test("notes and lists stay, ratings are blind", async ({ page, request }) => {
  await page.goto(`sae/${encodeURIComponent(await firstSae(request))}/latent/1`);
  await settled(page);
  const words = `<b>seen</b> & kept ${Date.now()}`;
  await page.getByLabel("Note", { exact: true }).fill(words);
  await expect(page.getByText("Saved", { exact: true })).toBeVisible();
  await page.reload();
  await expect(page.getByLabel("Note", { exact: true })).toHaveValue(words);

  await page.goto("lists");
  await page.getByLabel("Name of a new list").fill("zinc");
  await page.getByRole("button", { name: "Make" }).click();
  await expect(page).toHaveURL(/list=/);
  await expect(page.getByRole("heading", { name: "zinc" })).toBeVisible();

  await page.goto("rate");
  await page.getByLabel("Your name or initials").fill("ab");
  await page.getByRole("button", { name: "Start" }).click();
  await expect(page.getByRole("radio", { name: /one clear meaning/ })).toBeVisible();
  await expect(page.locator("main")).not.toContainText(/latent \d/i);
  await shot(page, "rate");
  await page.keyboard.press("2");
  await page.keyboard.press("Enter");
  await expect(page.getByText("1 rating this time")).toBeVisible();
});

test("what is not there is said", async ({ page, request }) => {
  const sae = encodeURIComponent(await firstSae(request));
  for (const [path, words] of [
    [`sae/${sae}/latent/99999999`, /no latent|has latents|only|0 to/i],
    ["protein/NOBODY", /no protein|not/i],
    ["no/such/page", /leads nowhere/],
    ["?q=C-x(2%2C", /motif|bracket|\)/i],
    ["?q=zzzzqqq", /Nothing found/],
  ] as const) {
    await page.goto(path);
    await expect(page.locator("main .empty")).toContainText(words);
  }
});

test("every page is accessible, light and dark, on a phone and on a wall", async ({ page, request }) => {
  const sae = encodeURIComponent(await firstSae(request));
  for (const path of ["./", "?q=helix", `sae/${sae}`, `sae/${sae}/latent/1`, "concepts", "concepts/helix", "lists", "rate"]) {
    await page.setViewportSize({ width: 1400, height: 900 });
    await page.emulateMedia({ colorScheme: "light" });
    await page.goto(path);
    await settled(page);
    await accessible(page);
    await page.emulateMedia({ colorScheme: "dark" });
    await accessible(page);
    if (path.includes("latent")) await shot(page, "latent-dark", false);
    await fits(page, 3840);
    await fits(page, 360);
    if (path.includes("latent")) await shot(page, "latent-phone", false);
  }
});
