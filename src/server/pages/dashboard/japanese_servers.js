// The texts of the pages of the servers and connections alone in Japanese, as in `japanese.js`.

export default {
  speed: "24 時間", speed_last: "通常の {n} 倍の時間", speed_of_day: "過去 24 時間の速度: {from} ～ {to} 倍、最新は{said}",
  queue: "キュー", queue_of: "{running} 件実行、{pending} 件待機", runs_now: "実行中", nothing: "なし", connected: "接続済み", n_connections: "{n} 接続", no_connections: "追跡されているジョブはありません", since: "{time} から", last_sign: "最終応答 {time}", details_hidden: "詳細には monitor スコープのトークンが必要です。", truncated: "これがすべてではありません。",
  drain: "ドレイン",
};
