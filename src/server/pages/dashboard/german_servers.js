// The texts of the pages of the servers and connections alone in German, as in `german.js`.

export default {
  speed: "24 Stunden", speed_last: "{n} × so lange wie sonst", speed_of_day: "Tempo der letzten 24 Stunden: {from}- bis {to}-mal, zuletzt {said}",
  queue: "Schlange", queue_of: "{running} in Arbeit, {pending} wartend", runs_now: "Läuft", nothing: "nichts", connected: "Verbunden", n_connections: ["{n} Verbindung", "{n} Verbindungen"], no_connections: "Niemand verfolgt einen Auftrag", since: "seit {time}", last_sign: "letztes Lebenszeichen {time}", details_hidden: "Die Einzelheiten brauchen ein Token mit dem Scope monitor.", truncated: "Das sind nicht alle.",
  drain: "Leeren",
};
