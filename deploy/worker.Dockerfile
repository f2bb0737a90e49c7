# A worker on a machine with a GPU. It shares the data folder and the database with the node.
FROM python:3.12-slim
RUN useradd --create-home --uid 10001 node
WORKDIR /srv
COPY pyproject.toml README.md ./
COPY storage storage
COPY dicom_node dicom_node
COPY inference inference
RUN pip install --no-cache-dir '.[worker,cluster]'
# A new volume takes its owner from the image.
RUN install --directory --owner=node --group=node /var/lib/dicom-node
USER node
VOLUME /var/lib/dicom-node
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "inference"]
CMD ["-c", "/etc/dicom-node/worker.toml"]
