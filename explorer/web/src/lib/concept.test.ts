import { expect, it } from "vitest";
import { conceptName } from "./concept";

it.each([
  ["DOMAIN SH3", "Domain: SH3"], ["DOMAIN", "Domain, any"], ["HELIX (UniProt)", "Helix (UniProt)"], ["W", "Tryptophan (W)"],
  ["helix", "helix"], ["GO:0005515 protein binding", "GO:0005515 protein binding"], ["BINDING Zn(2+)", "Binding: Zn(2+)"], ["DNA repair", "DNA repair"],
])("%s reads %s", (concept, words) => expect(conceptName(concept)).toBe(words));
