// The texts of the page of a job alone in German, as in `german.js`.

export default {
  step_of: "Schritt {step} von {steps}",
  copy_link: "Link kopieren", run_again: "Erneut starten", run_again_failed: "Erneuter Start nicht möglich: {reason}",
  where: "Ort", sent: "geschickt {time}", on_server: "auf", no_picture: "Noch kein Bild", no_picture_more: "Vorschauen kommen mit dem ersten Schritt eines Samplers.", no_picture_made: "Kein Bild", no_picture_made_more: "Dieser Auftrag hat keins gemacht.",
  previews_outputs: "Vorschauen und Ergebnisse", newest: "neueste", download: "Datei öffnen",
  began: "begann {time}", soft_end: "das Ende liegt im weichen Teil", nine_in_ten: "fertig {time}, acht von zehn Mal in diesem Intervall", done_about: "fertig {time}",
  starts_in: "beginnt in {time}", starts_now: "beginnt als Nächster", ahead_on: ["{n} davor auf {server}", "{n} davor auf {server}"],
  took_time: "dauerte {time}", predicted_began: "zu Beginn vorhergesagt: {time}", ended_at: "endete {time}", stopped_after: "hielt nach {time}",
  not_here: "Noch nicht da", not_registered: "Niemand hat diesen Auftrag angemeldet", waiting_more: "Wartet noch {n} s. Kommt er später, öffne diese Seite erneut.",
  no_such_job: "Diesen Auftrag gibt es nicht", no_such_job_more: "Niemand hat ihn rechtzeitig angemeldet. Kommt er später, öffne diese Seite erneut.", token_no: "Das Token erlaubt dies nicht",
  server_away: "Server fort", unknown_away: "unbekannt, solange der Server fort ist", last_heard: "zuletzt gehört {time}; der Auftrag läuft dort vielleicht weiter",
  makes: "Was er macht", model: "Modell", size: "Größe", sampler: "Sampler", seed: "Seed", prompt: "Prompt", pictures: ["{size}, ein Bild", "{size}, {n} Bilder"], frames: "{size}, {n} Bilder", steps: "{n} Schritte", cfg: "cfg {n}",
  shown: "Texte", shown_by: "Text von {name}",
  next_on: "Als Nächstes auf {server}",
  node: "Knoten {id}", runs_after: "läuft nach {name}", nodes: "Knoten", nodes_cached: "{n} davon aus dem Cache", key_took: "dauerte", key_predicted: "vorhergesagt", key_cached: "aus dem Cache",
  from_cache: "aus dem Cache", cached: "aus dem Cache", of_time: "von {time}", failed_after: "scheiterte nach {time}", not_reached: "nicht erreicht", interrupted: "hielt nach {time}",
  s_finished: "fertig", s_running: "läuft", s_failed: "gescheitert", s_cached: "aus dem Cache", s_waiting: "wartet", s_not_run: "nicht erreicht", s_interrupted: "abgebrochen",
  how_good: "Wie gut die Schätzung war", part: "Teil", source: "Woher sie kommt", predicted_h: "Vorhergesagt", took_h: "Dauerte", left_h: "Übrig", all_nodes: "Alle Knoten",
  no_estimate: "Noch gibt es nichts zu schätzen.", estimate_lost: "Vorhersagen überdauern keinen Neustart.",
  from_signature: ["{n} früherer Lauf in dieser Größe", "{n} frühere Läufe in dieser Größe"], from_class: ["{n} früherer Lauf in anderer Größe", "{n} frühere Läufe in anderen Größen"], from_other_backend: ["{n} früherer Lauf auf einem anderen Server", "{n} frühere Läufe auf anderen Servern"], from_role: ["{n} früherer Lauf ähnlicher Knoten", "{n} frühere Läufe ähnlicher Knoten"], from_table: "eine Annahme: er lief hier nie", measured: "Schritt {seen} von {steps}, in diesem Lauf gemessen", cold: "Modelle werden von der Platte gelesen", shorter: ["{n} kürzerer Knoten", "{n} kürzere Knoten"], inside: "im Intervall", outside: "außerhalb des Intervalls",
  take: "Zum Mitnehmen", link: "Link", terminal: "Terminal", socket: "Socket", prompt_id: "Prompt-Id", error_all: "Der ganze Fehler", copy_error: "Fehler kopieren", like_it: "Fehler auf diesem Server",
};
