// Starts the live figures of a page that has no kernel: reads the JSON of each, imports its module, and puts it in
// the place of its picture. It stands after every figure and starts those that are not started yet.
(() => {
  const stubModel = (traits) => {
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

  const start = async (root) => {
    const { module, css, traits } = JSON.parse(
      root.querySelector('script[type="application/json"]').textContent,
    );
    const url = URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
    try {
      const figure = (await import(url)).default;
      const el = document.createElement("div");
      const style = document.createElement("style");
      style.textContent = css;
      el.append(style);
      figure.render({ model: stubModel(traits), el });
      root.querySelector("img").replaceWith(el);
      root.dataset.live = "ready";
    } catch (error) {
      root.dataset.live = "failed";
      console.error("kdlib: this live figure stays a picture:", error);
    } finally {
      URL.revokeObjectURL(url);
    }
  };

  for (const root of document.querySelectorAll(".kdlib-live:not([data-live])")) {
    root.dataset.live = "starting";
    start(root);
  }
})();
