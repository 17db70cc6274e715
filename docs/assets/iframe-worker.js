// A page that is opened as a file may not start a worker. A hidden frame takes the worker's place, so that search works there too.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(address) {
      const frame = document.createElement("iframe");
      const waiting = [];
      let ready = false;
      const deliver = (data) =>
        setTimeout(() => frame.contentWindow && frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
      frame.hidden = true;
      this.frame = frame;
      this.postMessage = (data) => {
        const copy = structuredClone(data);
        if (ready) deliver(copy);
        else waiting.push(copy);
      };
      document.documentElement.append(frame);
      frame.contentWindow.postMessage = (data) => {
        const copy = structuredClone(data);
        setTimeout(() => this.onmessage && this.onmessage({ data: copy }));
      };
      const script = frame.contentDocument.createElement("script");
      script.src = new URL(address, location.href).href;
      script.onload = () => {
        ready = true;
        waiting.splice(0).forEach(deliver);
      };
      script.onerror = (event) => this.onerror && this.onerror(event);
      frame.contentDocument.body.append(script);
    }
    terminate() {
      this.frame.remove();
    }
  };
}
