import { RelayConnection } from "./relay_connection.js";

/** Follows the relay as a whole. */
export class MonitorSocket extends RelayConnection {
  constructor({ server, token } = {}) {
    super({ path: "ws/monitor", server, token });
  }
}
