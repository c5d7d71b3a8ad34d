// Every object has an address of its own: the part behind '#', words with slashes between them, each encoded.

export function parse(hash: string): string[] {
  return hash
    .replace(/^#\/?/, '')
    .split('/')
    .filter(Boolean)
    .map((word) => {
      try {
        return decodeURIComponent(word);
      } catch {
        return word;
      }
    });
}

export function to(...words: (string | number)[]): string {
  return '#/' + words.map((word) => encodeURIComponent(String(word))).join('/');
}
