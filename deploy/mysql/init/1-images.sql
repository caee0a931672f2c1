-- The database that the upload app writes and Pixtail listens to.
CREATE DATABASE IF NOT EXISTS app CHARACTER SET utf8mb4;

CREATE TABLE IF NOT EXISTS app.images (
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  title       VARCHAR(255)    NULL,
  description TEXT            NULL,
  file_path   VARCHAR(1024)   NOT NULL COMMENT 'path below the pictures folder, or URL',
  category    VARCHAR(100)    NULL,
  model_id    BIGINT UNSIGNED NULL,
  brand_id    BIGINT UNSIGNED NULL,
  upload_date DATETIME        NOT NULL DEFAULT CURRENT_TIMESTAMP,
  updated_at  TIMESTAMP       NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
) CHARACTER SET utf8mb4;
