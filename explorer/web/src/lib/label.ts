/** A label in two parts: the words, and the letters after the last colon. */
export function splitLabel(label: string): [words: string, letters: string] {
  const at = label.lastIndexOf(": ");
  return at < 0 ? [label, ""] : [label.slice(0, at), label.slice(at + 2)];
}
