/** Names of concepts in words: UniProt's feature keys and amino acids spelled out. */
const KEYS: Record<string, string> = {
  ACT_SITE: "Active site", BINDING: "Binding", CA_BIND: "Calcium binding", CARBOHYD: "Glycosylation", CHAIN: "Chain",
  COILED: "Coiled coil", COMPBIAS: "Biased composition", CROSSLNK: "Cross-link", DISULFID: "Disulfide", DNA_BIND: "DNA binding",
  DOMAIN: "Domain", HELIX: "Helix", INIT_MET: "Initiator methionine", INTRAMEM: "In membrane", LIPID: "Lipidation", METAL: "Metal binding",
  MOD_RES: "Modified residue", MOTIF: "Motif", NP_BIND: "Nucleotide binding", PEPTIDE: "Peptide", PROPEP: "Propeptide",
  REGION: "Region", REPEAT: "Repeat", SIGNAL: "Signal peptide", SITE: "Site", STRAND: "Strand", TOPO_DOM: "Topology",
  TRANSIT: "Transit peptide", TRANSMEM: "Transmembrane", TURN: "Turn", ZN_FING: "Zinc finger",
};
const RESIDUES: Record<string, string> = {
  A: "Alanine", C: "Cysteine", D: "Aspartate", E: "Glutamate", F: "Phenylalanine", G: "Glycine", H: "Histidine", I: "Isoleucine",
  K: "Lysine", L: "Leucine", M: "Methionine", N: "Asparagine", P: "Proline", Q: "Glutamine", R: "Arginine", S: "Serine",
  T: "Threonine", V: "Valine", W: "Tryptophan", Y: "Tyrosine",
};

/** `DOMAIN SH3` is "Domain: SH3", `DOMAIN` "Domain, any", `W` "Tryptophan (W)"; others stay. */
export function conceptName(concept: string): string {
  const residue = RESIDUES[concept];
  if (residue) return `${residue} (${concept})`;
  const match = /^([A-Z][A-Z_]+)(?: (.+))?$/.exec(concept);
  const word = match && KEYS[match[1]!];
  if (!match || !word) return concept;
  const rest = match[2];
  if (!rest) return `${word}, any`;
  return /^\(.*\)$/.test(rest) ? `${word} ${rest}` : `${word}: ${rest}`;
}
