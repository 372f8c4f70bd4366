// The texts of the page of a job alone in Japanese, as in `japanese.js`.

export default {
  step_of: "ステップ {step} / {steps}",
  copy_link: "リンクをコピー", run_again: "もう一度実行", run_again_failed: "再実行できません: {reason}",
  where: "現在位置", sent: "{time} 送信", on_server: "／", no_picture: "画像はまだありません", no_picture_more: "プレビューはサンプラーの最初のステップから届きます。", no_picture_made: "画像なし", no_picture_made_more: "このジョブは画像を作りませんでした。",
  previews_outputs: "プレビューと出力", newest: "最新", download: "ファイルを開く",
  began: "{time} 開始", soft_end: "終了は淡い部分のどこか", nine_in_ten: "{time} 完了、8 割はこの区間内", done_about: "{time} 完了",
  starts_in: "{time}後に開始", starts_now: "次に開始", ahead_on: "{server} で前に {n} 件",
  took_time: "{time}で終了", predicted_began: "開始時の予測 {time}", ended_at: "{time} 終了", stopped_after: "{time}で停止",
  not_here: "未登録", not_registered: "このジョブはまだ登録されていません", waiting_more: "あと {n} 秒待ちます。後で来た場合はこのページを開き直してください。",
  no_such_job: "このジョブは存在しません", no_such_job_more: "時間内に登録されませんでした。後で来た場合はこのページを開き直してください。", token_no: "このトークンでは許可されていません",
  server_away: "サーバー不在", unknown_away: "サーバー不在のため不明", last_heard: "最終受信 {time}。ジョブは続いている可能性があります",
  makes: "生成内容", model: "モデル", size: "サイズ", sampler: "サンプラー", seed: "シード", prompt: "プロンプト", pictures: "{size}、{n} 枚", frames: "{size}、{n} フレーム", steps: "{n} ステップ", cfg: "cfg {n}",
  shown: "テキスト", shown_by: "{name} のテキスト",
  next_on: "{server} の次",
  node: "ノード {id}", runs_after: "{name} の後", nodes: "ノード", nodes_cached: "うち {n} はキャッシュ", key_took: "実績", key_predicted: "予測", key_cached: "キャッシュ",
  from_cache: "キャッシュから", cached: "キャッシュ", of_time: "/ {time}", failed_after: "{time}で失敗", not_reached: "未到達", interrupted: "{time}で停止",
  s_finished: "完了", s_running: "実行中", s_failed: "失敗", s_cached: "キャッシュから", s_waiting: "待機中", s_not_run: "未到達", s_interrupted: "停止",
  how_good: "予測の精度", part: "部分", source: "根拠", predicted_h: "予測", took_h: "実績", left_h: "残り", all_nodes: "全ノード",
  no_estimate: "予測の対象がまだありません。", estimate_lost: "予測は再起動後に残りません。",
  from_signature: "同サイズの実行 {n} 回", from_class: "別サイズの実行 {n} 回", from_other_backend: "他サーバーの実行 {n} 回", from_role: "類似ノードの実行 {n} 回", from_table: "仮の値: ここでは未実行", measured: "ステップ {seen} / {steps}、今回の実測", cold: "モデルをディスクから読込", shorter: "短いノード {n} 個", inside: "区間内", outside: "区間外",
  take: "持ち出す", link: "リンク", terminal: "ターミナル", socket: "ソケット", prompt_id: "プロンプト ID", error_all: "エラー全文", copy_error: "エラーをコピー", like_it: "このサーバーの失敗",
};
