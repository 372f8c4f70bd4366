// The texts of the page that submits workflows alone in Japanese, as in `japanese.js`.

export default {
  submit_job: "ジョブを投入", workflow: "ワークフロー", sending: "送信中 …", submitted: "投入しました：",
  required: "必須", random: "ランダム", from_to: "{from}〜{to}",
  see_entries: ["投入されていません：{n} 件の入力に誤りがあります。", "投入されていません：{n} 件の入力に誤りがあります。"],
  no_workflows: "ワークフローがありません", no_workflows_more: "API 形式のグラフをワークフローのフォルダー（WORKFLOWS）に置いてください。", not_read: "ワークフローを読み込めません",
  broken: ["{n} 件のワークフローはヘッダーに誤りがあるため投入できません：{names}", "{n} 件のワークフローはヘッダーに誤りがあるため投入できません：{names}"],
};
