// The ring in the icon of the browser's tab.

const icon = document.getElementById("icon");
let shown = "";

/** Shows a share, 0 to 100, as a ring. */
export function showRing(percent, status) {
  const key = `${percent} ${status}`;
  if (key === shown) return;
  shown = key;
  const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 32 });
  const context = canvas.getContext("2d");
  const arc = (color, share) => {
    context.beginPath();
    context.strokeStyle = color;
    context.lineWidth = 7;
    context.arc(16, 16, 12, -Math.PI / 2, -Math.PI / 2 + share * 2 * Math.PI);
    context.stroke();
  };
  arc("#8a90ab66", 1);
  arc({ completed: "#1f9d70", failed: "#d1334d", cancelled: "#8a90ab" }[status] ?? "#5b72ee", percent / 100);
  canvas.toBlob((blob) => {
    const before = icon.href;
    icon.href = URL.createObjectURL(blob);
    if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  });
}
