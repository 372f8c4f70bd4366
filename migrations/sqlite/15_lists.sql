-- The newest jobs of this relay, and who is connected to it: a JSON object, for the other relays.
ALTER TABLE comfy_relay.relays ADD COLUMN list TEXT;
