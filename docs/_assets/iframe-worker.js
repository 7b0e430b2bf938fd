// Search on pages opened from disk: browsers start no worker from file://, so its script runs in a hidden frame.
// In place of the shim that Material's plugin `offline` would load from the internet.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.appendChild(this.frame)
      addEventListener("message", event => {
        if (event.source === this.frame.contentWindow)
          this.dispatchEvent(new MessageEvent("message", { data: event.data }))
      })
      const page = this.frame.contentDocument
      page.open()
      page.write(
        "<script>postMessage = data => parent.postMessage(data, '*');" +
        "importScripts = (...urls) => urls.reduce((done, url) => done.then(() => new Promise((ok, fail) => {" +
        "const script = document.createElement('script'); script.src = url; script.onload = ok;" +
        "script.onerror = fail; document.body.appendChild(script) })), Promise.resolve())<\/script>" +
        `<body><script src="${url}"><\/script></body>`
      )
      page.close()
      this.ready = new Promise(done => { this.frame.onload = done })
    }
    postMessage(data) {
      // The frame's own postMessage is the worker's, which answers us.
      this.ready.then(() => window.postMessage.call(this.frame.contentWindow, data, "*"))
    }
    terminate() {
      this.frame.remove()
    }
  }
}
