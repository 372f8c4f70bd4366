// The texts of the page that submits workflows alone in German, as in `german.js`.

export default {
  submit_job: "Auftrag aufgeben", workflow: "Workflow", sending: "Wird gesendet …", submitted: "Aufgegeben:",
  required: "nötig", random: "zufällig", from_to: "{from} bis {to}",
  see_entries: ["Es wurde nichts aufgegeben: Eine Angabe ist falsch.", "Es wurde nichts aufgegeben: {n} Angaben sind falsch."],
  no_workflows: "Es gibt keine Workflows", no_workflows_more: "Lege Graphen im API-Format in den Ordner der Workflows (WORKFLOWS).", not_read: "Die Workflows lassen sich nicht lesen",
  broken: ["Ein Workflow lässt sich nicht aufgeben, weil sein Kopf falsch ist: {names}", "{n} Workflows lassen sich nicht aufgeben, weil ihre Köpfe falsch sind: {names}"],
};
