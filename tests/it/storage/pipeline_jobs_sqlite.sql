-- The same in SQLite.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    project_id INTEGER,
    character_id INTEGER,
    job_type VARCHAR(50) NOT NULL,
    status VARCHAR(50) DEFAULT 'pending',
    priority INTEGER DEFAULT 0,
    prompt TEXT,
    negative_prompt TEXT,
    output_path VARCHAR(500),
    error_message TEXT,
    metadata TEXT DEFAULT '{}',
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP
);

INSERT INTO jobs (project_id, job_type, status, priority, prompt, output_path, metadata, created_at) VALUES
    (7, 'image', 'pending', 5, 'a fox', NULL, '{"scene": 3, "tags": ["a", "b"], "progress": 12}', '2025-12-10 15:30:45.123456'),
    (7, 'video', 'archived', 1, 'a bear', 'old/bear.mp4', NULL, '2025-12-10 15:30:45.123499'),
    (8, 'image', 'completed', 1, 'a crow', 'old/crow.png', 'null', NULL);
