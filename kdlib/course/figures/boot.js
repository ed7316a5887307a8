// @ts-check
// Starts the live figures of a page that has no kernel: reads the JSON of each, imports its module, and puts it in
// the place of its picture. It stands after every figure and starts those that are not started yet.
(() => {
  /** @type {(traits: Record<string, unknown>) => Model<Record<string, unknown>>} */
  const stubModel = (traits) => {
    /** @type {Record<string, (() => void)[]>} */
    const listeners = {};
    return {
      get: (name) => traits[name],
      set(name, value) {
        if (Object.is(traits[name], value)) return;
        traits[name] = value;
        (listeners[`change:${name}`] ?? []).forEach((listener) => listener());
      },
      on: (event, listener) => void (listeners[event] ??= []).push(listener),
      off: (event, listener) =>
        void (listeners[event] = (listeners[event] ?? []).filter((l) => l !== listener)),
      save_changes() {},
    };
  };

  /** @param {HTMLElement} root */
  const start = async (root) => {
    const still = /** @type {HTMLImageElement} */ (root.querySelector("img"));
    const content = /** @type {HTMLScriptElement} */ (root.querySelector('script[type="application/json"]'));
    const { module, css, traits } = JSON.parse(content.text);
    const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
    try {
      const figure = (await import(url)).default;
      const el = document.createElement("div");
      const style = document.createElement("style");
      style.textContent = css;
      el.append(style);
      figure.render({ model: stubModel(traits), el });
      still.replaceWith(el);
      root.dataset.live = "ready";
    } catch (error) {
      root.dataset.live = "failed";
      console.error("kdlib: this live figure stays a picture:", error);
    } finally {
      URL.revokeObjectURL(url);
    }
  };

  /** @type {NodeListOf<HTMLElement>} */
  const waiting = document.querySelectorAll(".kdlib-live:not([data-live])");
  for (const root of waiting) {
    root.dataset.live = "starting";
    start(root);
  }
})();
