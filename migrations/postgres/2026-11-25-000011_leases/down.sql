ALTER TABLE backends DROP COLUMN held_until;
ALTER TABLE backends DROP COLUMN holder;
