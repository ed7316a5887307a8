// What other scripts of a page leave for ours in static/, for `deno check` and for editors.

declare const DOCUMENTATION_OPTIONS: { SHOW_SEARCH_SUMMARY: boolean };
declare const katex: {
  render(tex: string, target: Element, options: { displayMode: boolean; throwOnError: boolean }): void;
};
