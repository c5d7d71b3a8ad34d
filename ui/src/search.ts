/** Whether one of these texts has every word of what is looked for in it. */
export function matches(find: string, ...texts: (string | null | undefined)[]): boolean {
  const words = find.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const all = texts.filter(Boolean).join('\n').toLowerCase();
  return words.every((word) => all.includes(word));
}
