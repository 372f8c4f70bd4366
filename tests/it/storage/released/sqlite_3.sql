-- Which relay follows a server, and until when (milliseconds since 1970) it does unless it says so again.
ALTER TABLE backends ADD COLUMN holder TEXT;
ALTER TABLE backends ADD COLUMN held_until BIGINT;
