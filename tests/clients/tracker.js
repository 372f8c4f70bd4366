// A browser class as pages of the old system hold one: a classic script, no module.
// It connects again after every close, whatever the code, and only an open socket ends its patience anew:
// a server that closes the socket of an ended job is asked for that job for ever.

class ProgressTracker {
  constructor(jobId, serverUrl) {
    this.jobId = jobId;
    this.serverUrl = serverUrl;
    this.socket = null;
    this.attempts = 0;
    this.maxAttempts = 5;
  }

  connect() {
    this.socket = new WebSocket(`${this.serverUrl}/ws/${this.jobId}`);
    this.socket.onopen = () => {
      this.attempts = 0;
    };
    this.socket.onmessage = (event) => this.handle(JSON.parse(event.data));
    this.socket.onclose = () => this.reconnect();
    this.socket.onerror = () => {};
  }

  handle(message) {
    if (message.type === "progress") {
      this.update(message);
    } else if (message.type === "error") {
      this.onError(message.error);
    }
  }

  update(message) {
    this.onUpdate(message.progress, message.estimated_remaining, message.message);
    if (message.status === "completed") {
      this.onComplete(message.output_path);
    }
  }

  reconnect() {
    if (this.attempts >= this.maxAttempts) return;
    this.attempts += 1;
    setTimeout(() => this.connect(), 2000 * this.attempts);
  }

  // What a page puts in.
  onUpdate(_progress, _remaining, _message) {}
  onComplete(_outputPath) {}
  onError(_error) {}
}
