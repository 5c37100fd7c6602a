# Creates the Bugsink project with its DSN key, a user for the browser and a token for the API.
# `bugsink-manage shell` runs this file. Repeated runs are safe. The credentials are for a demo only.
import uuid

from bsmain.models import AuthToken
from django.contrib.auth import get_user_model
from projects.models import Project, ProjectMembership, ProjectRole
from teams.models import Team

KEY = "0123456789abcdef0123456789abcdef"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
LOGIN = "admin@example.org"

users = get_user_model().objects
user = users.filter(username=LOGIN).first() or users.create_superuser(LOGIN, LOGIN, "admin")
team, _ = Team.objects.get_or_create(name="BookApp")
project, _ = Project.objects.get_or_create(
    slug="bookapp", defaults={"name": "BookApp", "team": team, "sentry_key": uuid.UUID(KEY)}
)
ProjectMembership.objects.get_or_create(
    project=project, user=user, defaults={"role": ProjectRole.ADMIN, "accepted": True}
)
if not AuthToken.objects.filter(token=TOKEN).exists():
    AuthToken.create_full_access(token=TOKEN, description="end-to-end checks")
