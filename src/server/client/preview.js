/**
 * A binary message: the length of the header (4 bytes, big-endian), the header as JSON, the image as ComfyUI sent it.
 * The header is null where it cannot be read.
 */
export function readPreview(data) {
  try {
    const start = 4 + new DataView(data).getUint32(0);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, start - 4)));
    return { header, image: new Uint8Array(data, start) };
  } catch {
    return { header: null, image: new Uint8Array(data) };
  }
}
