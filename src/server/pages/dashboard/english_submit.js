// The texts of the page that submits workflows alone in English, as in `english.js`.

export default {
  submit_job: "Submit a job", workflow: "Workflow", sending: "Sending …", submitted: "Submitted:",
  required: "required", random: "random", from_to: "{from} to {to}",
  see_entries: ["Nothing was submitted: one entry is wrong.", "Nothing was submitted: {n} entries are wrong."],
  no_workflows: "There are no workflows", no_workflows_more: "Put graphs in API format into the folder of workflows (WORKFLOWS).", not_read: "The workflows cannot be read",
  broken: ["One workflow cannot be submitted, because its header is wrong: {names}", "{n} workflows cannot be submitted, because their headers are wrong: {names}"],
};
