from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("playground", "0001_initial"),
    ]

    operations = [
        migrations.DeleteModel(
            name="Presence",
        ),
    ]
